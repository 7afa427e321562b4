output "containers" {
  description = "lake, mlflow, packages, logs to their containers."
  value       = { for key, container in openstack_objectstorage_container_v1.this : key => container.name }
}

output "volume_ids" {
  description = "What chameleon/cluster attaches: -var 'volume_ids={postgres=\"…\"}'."
  value       = { for key, volume in openstack_blockstorage_volume_v3.this : key => volume.id }
}
