# terraform test: the provider is a mock, so this shows what is asked for, not that AWS accepts it.
mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { name = "eu-west-1" }
  }
}

variables {
  name                = "slipway-staging-t1"
  zones               = ["a", "b", "c"]
  flow_log_bucket_arn = "arn:aws:s3:::slipway-staging-t1-logs"
}

run "three_private_and_three_public_subnets_share_nothing" {
  command = plan

  assert {
    condition     = join(" ", [for zone in var.zones : aws_subnet.private[zone].cidr_block]) == "10.40.0.0/18 10.40.64.0/18 10.40.128.0/18"
    error_message = "Each zone's nodes and pods get a quarter of the range."
  }
  assert {
    condition     = join(" ", [for zone in var.zones : aws_subnet.public[zone].cidr_block]) == "10.40.192.0/20 10.40.208.0/20 10.40.224.0/20"
    error_message = "What is public lies in the last quarter."
  }
  assert {
    condition     = alltrue([for subnet in aws_subnet.public : !subnet.map_public_ip_on_launch])
    error_message = "No machine gets a public address by accident."
  }
  assert {
    condition     = aws_vpc_endpoint.s3.service_name == "com.amazonaws.eu-west-1.s3" && length(aws_route_table.private) == 3
    error_message = "Objects are read through the endpoint of this region, from each private table."
  }
}

run "one_nat_gateway_serves_all_zones" {
  command = apply

  assert {
    condition     = keys(aws_nat_gateway.this) == ["a"]
    error_message = "One gateway, in the first zone."
  }
  assert {
    condition     = alltrue([for route in aws_route.private : route.nat_gateway_id == aws_nat_gateway.this["a"].id])
    error_message = "All zones leave through it."
  }
  assert {
    condition     = length(output.private_subnet_ids) == 3 && output.private_subnet_ids[1] == aws_subnet.private["b"].id
    error_message = "Subnets come in the order of the zones."
  }
}

run "a_gateway_in_each_zone_survives_the_loss_of_one" {
  command = apply
  variables {
    nat_in_each_zone = true
  }

  assert {
    condition     = alltrue([for zone in var.zones : aws_route.private[zone].nat_gateway_id == aws_nat_gateway.this[zone].id])
    error_message = "Each zone leaves through its own gateway."
  }
}

run "a_range_that_is_too_small" {
  command = plan
  variables {
    cidr = "10.40.0.0/21"
  }
  expect_failures = [var.cidr]
}

run "the_smallest_range" {
  command = plan
  variables {
    cidr = "10.40.0.0/20"
  }
  assert {
    condition     = aws_subnet.private["c"].cidr_block == "10.40.8.0/22"
    error_message = "A /20 gives each zone a /22."
  }
}

run "a_range_that_no_vpc_may_have" {
  command = plan
  variables {
    cidr = "10.0.0.0/8"
  }
  expect_failures = [var.cidr]
}

run "no_range_at_all" {
  command = plan
  variables {
    cidr = "10.40.0.0"
  }
  expect_failures = [var.cidr]
}

run "two_zones" {
  command = plan
  variables {
    zones = ["a", "b", "a"]
  }
  expect_failures = [var.zones]
}
