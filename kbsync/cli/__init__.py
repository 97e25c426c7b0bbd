"""The `kbsync` command: what a person or a script asks for, and how it is answered."""
