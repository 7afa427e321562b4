# As small as staging's load test allows: one NAT gateway, spot machines for training, GPUs only while a run asks.
environment        = "staging"
nat_in_each_zone   = false
gpu_runs           = true
serving_namespaces = ["slipway-staging"]
pools = {
  platform = { kind = "cpu", instance_types = ["m6i.xlarge"], min_size = 2, max_size = 4 }
  training = { kind = "cpu", instance_types = ["m6i.2xlarge"], min_size = 0, max_size = 4, spot = true }
  gpu      = { kind = "gpu", instance_types = ["g5.2xlarge"], min_size = 0, max_size = 1, disk_gb = 200, spot = true }
}
