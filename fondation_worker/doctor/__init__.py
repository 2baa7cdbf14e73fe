"""`fondation-worker doctor`: looks at everything that a worker needs, and changes nothing.

A check is a function that returns findings. `checkup` has the list of them; `examination` runs them
beside each other, each for its own time at most, and takes one that crashes for a finding, too.
"""
