terraform {
  required_version = "~> 1.11"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
  # Terraform shows this line where no place was named.
  backend "s3" {} # terraform init -backend-config=<environment>.s3.tfbackend; example.s3.tfbackend.example lies beside this file
}
