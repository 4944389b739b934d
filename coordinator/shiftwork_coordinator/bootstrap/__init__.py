"""Puts agents on hosts over SSH: facts are gathered, a pure function says the next step, a thin shell takes it."""
