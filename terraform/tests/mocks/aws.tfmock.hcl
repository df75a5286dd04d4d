mock_data "aws_caller_identity" {
  defaults = { account_id = "111122223333" }
}
mock_resource "aws_msk_cluster" {
  defaults = { bootstrap_brokers_sasl_scram = "b-1.example:9096,b-2.example:9096,b-3.example:9096" }
}
mock_resource "aws_elasticache_replication_group" {
  defaults = { primary_endpoint_address = "primary.example" }
}
mock_resource "aws_acm_certificate" {
  defaults = {
    domain_validation_options = [{
      domain_name           = "attune.example.com"
      resource_record_name  = "_proof.attune.example.com"
      resource_record_type  = "CNAME"
      resource_record_value = "_proof.acm.example"
    }]
  }
}
mock_resource "aws_eks_cluster" {
  defaults = { vpc_config = { cluster_security_group_id = "sg-cluster" } }
}

mock_resource "aws_vpc_endpoint" {
  defaults = { dns_entry = [{ dns_name = "vpce.example", hosted_zone_id = "Z1" }] }
}
