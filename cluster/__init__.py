"""The second place: what can be proved of it without a cluster. Knows manifests, images and plans; runs no step."""
