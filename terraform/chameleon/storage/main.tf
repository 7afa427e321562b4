# What outlives a lease: object containers and volumes. Nothing here is destroyed by Terraform (prevent_destroy), and no
# machine stands in this state. Every name ends in the project's suffix, by which a shared project tells whose it is.

# Entries of clouds.yaml: virtual machines and their volumes are at one site, objects at another.
provider "openstack" {
  alias = "compute"
  cloud = var.compute_cloud
}

provider "openstack" {
  alias = "objects"
  cloud = var.object_cloud
}

resource "openstack_objectstorage_container_v1" "this" {
  for_each      = toset(["lake", "mlflow", "packages", "logs"])
  provider      = openstack.objects
  name          = "slipway-${each.key}-${var.suffix}"
  force_destroy = false
  # No container_read: only the project reads.
  metadata = { project = "slipway", environment = var.environment }

  lifecycle {
    prevent_destroy = true
  }
}

resource "openstack_blockstorage_volume_v3" "this" {
  for_each    = var.volumes
  provider    = openstack.compute
  name        = "slipway-${each.key}-${var.suffix}"
  description = "Slipway's ${each.key}; outlives every lease"
  size        = each.value
  metadata    = { project = "slipway", environment = var.environment }

  lifecycle {
    prevent_destroy = true
  }
}
