# The machines of one lease: a private network, ports, security groups, servers of the reserved flavours, one floating
# address, and the volumes that came before them. Kubernetes is then laid over them by Kubespray (output "inventory").

locals {
  # The door: the node that has the floating address and the volumes.
  door = sort([for name, node in var.nodes : name if node.pool == "cpu"])[0]
  # What the world may ask of the door.
  open = merge(
    { for port in [80, 443] : "web-${port}" => { port = port, cidr = "0.0.0.0/0" } },
    merge([for cidr in var.admin_cidrs : {
      "ssh-${cidr}" = { port = 22, cidr = cidr }
      "api-${cidr}" = { port = 6443, cidr = cidr }
    }]...),
  )
}

provider "openstack" {
  cloud = var.compute_cloud
}

# Chameleon's shared network, from which floating addresses are reached.
data "openstack_networking_network_v2" "shared" {
  name = "sharednet1"
}

resource "openstack_networking_network_v2" "private" {
  name                  = "slipway-network-${var.suffix}"
  admin_state_up        = true
  port_security_enabled = true
}

resource "openstack_networking_subnet_v2" "private" {
  name       = "slipway-subnet-${var.suffix}"
  network_id = openstack_networking_network_v2.private.id
  cidr       = var.cidr
  ip_version = 4
  no_gateway = true
}

resource "openstack_networking_secgroup_v2" "door" {
  name        = "slipway-door-${var.suffix}"
  description = "The web for all, SSH and the API server for administrators"
}

resource "openstack_networking_secgroup_rule_v2" "door" {
  for_each          = local.open
  description       = each.key
  direction         = "ingress"
  ethertype         = "IPv4"
  protocol          = "tcp"
  port_range_min    = each.value.port
  port_range_max    = each.value.port
  remote_ip_prefix  = each.value.cidr
  security_group_id = openstack_networking_secgroup_v2.door.id
}

# A node trusts its fellows: pods' packets cross it with the overlay's addresses inside.
resource "openstack_networking_secgroup_v2" "nodes" {
  name        = "slipway-nodes-${var.suffix}"
  description = "Nodes of one cluster among themselves"
}

resource "openstack_networking_secgroup_rule_v2" "nodes" {
  description       = "from node to node"
  direction         = "ingress"
  ethertype         = "IPv4"
  remote_group_id   = openstack_networking_secgroup_v2.nodes.id
  security_group_id = openstack_networking_secgroup_v2.nodes.id
}

resource "openstack_networking_port_v2" "private" {
  for_each           = var.nodes
  name               = "slipway-private-${each.key}-${var.suffix}"
  network_id         = openstack_networking_network_v2.private.id
  security_group_ids = [openstack_networking_secgroup_v2.nodes.id]

  fixed_ip {
    subnet_id  = openstack_networking_subnet_v2.private.id
    ip_address = cidrhost(var.cidr, each.value.host)
  }
}

resource "openstack_networking_port_v2" "shared" {
  for_each   = var.nodes
  name       = "slipway-shared-${each.key}-${var.suffix}"
  network_id = data.openstack_networking_network_v2.shared.id
  security_group_ids = each.key == local.door ? [
    openstack_networking_secgroup_v2.nodes.id, openstack_networking_secgroup_v2.door.id
  ] : [openstack_networking_secgroup_v2.nodes.id]
}

resource "openstack_compute_instance_v2" "node" {
  for_each   = var.nodes
  name       = "slipway-${each.key}-${var.suffix}"
  image_name = each.value.pool == "gpu" ? var.gpu_image : var.cpu_image
  # A lease makes a flavour of its own: its id is the reservation.
  flavor_id = each.value.pool == "gpu" ? var.gpu_reservation : var.cpu_reservation
  key_pair  = var.key_pair
  metadata  = { project = "slipway", environment = var.environment, pool = each.value.pool }

  network {
    port = openstack_networking_port_v2.shared[each.key].id
  }

  network {
    port = openstack_networking_port_v2.private[each.key].id
  }

  # Chameleon's images bring this command: the keys of everybody in the project.
  user_data = <<-EOT
    #!/bin/bash
    echo "127.0.1.1 slipway-${each.key}-${var.suffix}" >> /etc/hosts
    su cc -c /usr/local/bin/cc-load-public-keys
  EOT
}

resource "openstack_compute_volume_attach_v2" "this" {
  for_each    = var.volume_ids
  instance_id = openstack_compute_instance_v2.node[local.door].id
  volume_id   = each.value
}

resource "openstack_networking_floatingip_v2" "door" {
  pool        = "public"
  description = "slipway-door-${var.suffix}"
  port_id     = openstack_networking_port_v2.shared[local.door].id
}
