"""Load balancers of the lab: what moto lacks of Elastic Load Balancing, and the router that real requests run through.

`forwarding.py` says where a request goes, `health.py` which targets take requests, `router.py` carries them there, and
`elbv2.py` keeps all three in step with the API. None of them knows what a target is.
"""
