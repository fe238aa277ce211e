"""Normalization layers beside their peers: how fast each is on this machine.

Nothing is imported here, as the process of every peer comes by.
"""
