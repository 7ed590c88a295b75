"""The lab: a client, mail servers, and the appliance between them, in network namespaces of their own.

One Lab (lab.py) is used by `make demo`, `make lab` and the end-to-end tests alike. Everything that it starts
runs inside one of its three namespaces, so that ending it means: end what runs there, then remove them.
"""
