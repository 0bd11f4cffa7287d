"""`python -m msp_cli`."""

from msp_cli.main import app

if __name__ == "__main__":
    app()
