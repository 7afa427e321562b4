"""One folder per pipeline step: step.py is what it does, component.py its KFP adapter, README.md its page.

A step reads folders and writes folders, so the same code runs in a subprocess on a laptop and in a pod.
"""
