"""What all drivers for AWS share: clients, and errors in our words."""
