# A cluster of its own only where canaries must not share production's; otherwise production holds the namespace.
environment        = "canary"
nat_in_each_zone   = false
gpu_runs           = false
serving_namespaces = ["slipway-canary"]
pools = {
  platform = { kind = "cpu", instance_types = ["m6i.xlarge"], min_size = 3, max_size = 6 }
}
