"""Scapy warns of routes that it would need to send; here it only builds frames."""
import logging

logging.getLogger("scapy").setLevel(logging.ERROR)
