# Survives the loss of a zone: NAT in each, three nodes that are always there; GPUs only while a run asks.
environment        = "production"
nat_in_each_zone   = true
gpu_runs           = true
serving_namespaces = ["slipway-staging", "slipway-canary", "slipway-production"]
pools = {
  platform = { kind = "cpu", instance_types = ["m6i.xlarge"], min_size = 3, max_size = 9 }
  training = { kind = "cpu", instance_types = ["m6i.2xlarge"], min_size = 0, max_size = 8 }
  gpu      = { kind = "gpu", instance_types = ["g5.2xlarge"], min_size = 0, max_size = 4, disk_gb = 200 }
}
