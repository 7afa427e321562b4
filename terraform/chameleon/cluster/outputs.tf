output "address" {
  description = "The floating address: SSH, the API server and the web."
  value       = openstack_networking_floatingip_v2.door.address
}

output "inventory" {
  description = "Kubespray's inventory/hosts.yaml: terraform output -raw inventory."
  value = yamlencode({
    all = {
      hosts = { for name, node in var.nodes : name => {
        ansible_host = openstack_networking_port_v2.private[name].all_fixed_ips[0]
        ip           = openstack_networking_port_v2.private[name].all_fixed_ips[0]
        access_ip    = openstack_networking_port_v2.private[name].all_fixed_ips[0]
        node_labels  = { "slipway.dev/pool" = node.pool }
        node_taints  = node.pool == "gpu" ? ["nvidia.com/gpu=present:NoSchedule"] : []
      } }
      children = {
        kube_control_plane = { hosts = { (local.door) = null } }
        etcd               = { hosts = { (local.door) = null } }
        kube_node          = { hosts = { for name, node in var.nodes : name => null } }
        k8s_cluster        = { children = { kube_control_plane = null, kube_node = null } }
      }
    }
  })
}
