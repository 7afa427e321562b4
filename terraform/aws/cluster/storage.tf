# The environment's storage, looked up by name. Fails at plan time where aws/storage was not applied before.

data "aws_s3_bucket" "storage" {
  for_each = toset(["lake", "mlflow", "packages", "logs"])
  bucket   = "${local.prefix}-${each.key}"
}

data "aws_kms_alias" "storage" {
  name = "alias/${local.prefix}/storage"
}

data "aws_efs_file_system" "storage" {
  creation_token = local.prefix
}

# The file system's door into this network. It goes with the compute; the file system stays.
resource "aws_security_group" "file_system" {
  name        = "${local.prefix}-file-system"
  description = "NFS from the nodes of ${local.prefix}"
  vpc_id      = module.network.vpc_id
}

# The private subnets hold nodes and pods, and nothing else.
resource "aws_vpc_security_group_ingress_rule" "file_system" {
  for_each          = module.network.private_cidrs
  security_group_id = aws_security_group.file_system.id
  description       = "NFS from nodes and pods in ${each.key}"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 2049
  to_port           = 2049
}

resource "aws_efs_mount_target" "file_system" {
  # By index: the subnets' ids are known only after they were made, and their number always.
  count           = length(local.zones)
  file_system_id  = data.aws_efs_file_system.storage.file_system_id
  subnet_id       = module.network.private_subnet_ids[count.index]
  security_groups = [aws_security_group.file_system.id]
}
