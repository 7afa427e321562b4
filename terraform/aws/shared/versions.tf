terraform {
  required_version = "~> 1.11"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
  # Where: `terraform init -backend-config=<yours>.s3.tfbackend` (an example lies beside this file).
  backend "s3" {}
}
