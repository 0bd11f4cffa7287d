"""`msp plan`: which model goes on which GPU, what that leaves for requests, and the files that say so."""
