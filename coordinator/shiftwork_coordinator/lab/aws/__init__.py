"""AWS on this machine: moto's server as its control plane, and before it a proxy that records every call, does harm on
demand, and supplies what moto lacks. A service's additions are one file with one class, listed in `services.py`."""
