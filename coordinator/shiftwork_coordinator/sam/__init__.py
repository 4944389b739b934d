"""SAM templates: what they say of deployments, as groups and functions of this coordinator. Pure."""
