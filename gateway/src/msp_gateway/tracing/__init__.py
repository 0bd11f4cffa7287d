"""OpenTelemetry traces of requests, where the operator asks for them."""
