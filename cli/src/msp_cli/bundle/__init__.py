"""`msp bundle`: what the scripts that make and take bundles ask of the services.

It runs in its image, also in the air gap; the hosts themselves need no Python.
"""
