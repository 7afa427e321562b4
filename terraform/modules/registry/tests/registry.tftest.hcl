# Plans only: repositories are kept (prevent_destroy).
mock_provider "aws" {}

variables {
  images = ["serving", "training"]
}

run "tags_stay_and_images_are_scanned" {
  command = plan

  assert {
    condition     = join(" ", [for repository in aws_ecr_repository.this : repository.name]) == "slipway/serving slipway/training"
    error_message = "One repository for each image, in one folder."
  }
  assert {
    condition     = alltrue([for repository in aws_ecr_repository.this : repository.image_tag_mutability == "IMMUTABLE" && repository.image_scanning_configuration[0].scan_on_push && !repository.force_delete])
    error_message = "Tags stay, pushes are scanned, full repositories are not deleted."
  }
  assert {
    condition     = jsondecode(aws_ecr_lifecycle_policy.this["serving"].policy).rules[0].selection.tagStatus == "untagged" && jsondecode(aws_ecr_lifecycle_policy.this["serving"].policy).rules[1].selection.countNumber == 300
    error_message = "Abandoned layers go after two weeks, releases after 300."
  }
}

run "no_image" {
  command = plan
  variables {
    images = []
  }
  expect_failures = [var.images]
}

run "a_tag_in_a_name" {
  command = plan
  variables {
    images = ["serving:0.1.0"]
  }
  expect_failures = [var.images]
}

run "too_few_to_roll_back" {
  command = plan
  variables {
    images_kept = 3
  }
  expect_failures = [var.images_kept]
}
