"""`msp doctor` and `msp support-bundle`: what is wrong with an installation, and what to do about it."""
