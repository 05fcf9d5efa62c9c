"""Engines answer requests; all keep the contract of `base.Engine`."""
