"""The gateway's own HTTP/1.1 client to workers: small, pooled, and with back-pressure in both directions.

`client` implements the Protocols of `msp_gateway.upstream`, over pool, connection and answer.
"""
