"""What the programs of the Model Service Platform share: contracts, errors, settings, logs, serving."""
