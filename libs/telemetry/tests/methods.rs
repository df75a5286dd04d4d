//! The method table names every method of the protos, and no other.

use attune_telemetry::grpc::METHODS;
use prost_types::FileDescriptorSet;
use std::collections::BTreeSet;

#[test]
fn the_table_is_complete() {
    let set = <FileDescriptorSet as prost::Message>::decode(attune_proto::DESCRIPTORS).unwrap();
    let mut wanted = BTreeSet::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                wanted.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    let known: BTreeSet<String> = METHODS.iter().map(|method| method.path.to_owned()).collect();
    assert_eq!(known, wanted);
    let names: BTreeSet<&str> = METHODS.iter().map(|method| method.span).collect();
    assert_eq!(names.len(), METHODS.len(), "span names tell methods apart");
    let endpoints: BTreeSet<_> = METHODS.iter().map(|method| (method.owner, method.endpoint)).collect();
    assert_eq!(endpoints.len(), METHODS.len(), "endpoints tell a service's methods apart");
}
