mock_provider "aws" {}

variables {
  name = "attune-test"
  home = { region = "us-east-1", cluster_arn = "arn:home", subnet_ids = ["subnet-a"], security_group_id = "sg-1" }
  receivers = {
    eu-west-1 = { cluster_arn = "arn:eu", subnet_ids = ["subnet-b"], security_group_id = "sg-2" }
  }
}

run "writes_where_it_lives" {
  assert {
    condition     = aws_msk_replicator.this["eu-west-1"].region == "eu-west-1" && aws_msk_replicator.this["eu-west-1"].replication_info_list[0].target_kafka_cluster_arn == "arn:eu"
    error_message = "the replicator is not in the region that receives"
  }
  assert {
    condition     = aws_msk_replicator.this["eu-west-1"].replication_info_list[0].topic_replication[0].topic_name_configuration[0].type == "IDENTICAL"
    error_message = "the topics come under other names"
  }
}

run "refuses_to_count_events_twice" {
  command = plan
  variables {
    topics = ["item-updates", "user-events"]
  }
  expect_failures = [var.topics]
}
