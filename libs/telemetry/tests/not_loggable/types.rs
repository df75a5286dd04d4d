//! No value of these types fits into a field.

use attune_telemetry::Fields;

fn string(fields: &mut Fields<'_>, value: String) {
    fields.put("value", &value);
}

fn text(fields: &mut Fields<'_>, value: &str) {
    fields.put("value", &value);
}

fn static_text(fields: &mut Fields<'_>, value: &'static str) {
    fields.put("value", &value);
}

fn item_id(fields: &mut Fields<'_>, value: attune_domain::ItemId) {
    fields.put("value", &value);
}

fn item_number(fields: &mut Fields<'_>, value: attune_domain::ItemIx) {
    fields.put("value", &value);
}

fn items(fields: &mut Fields<'_>, value: Vec<attune_domain::ItemId>) {
    fields.put("value", &value);
}

fn uid(fields: &mut Fields<'_>, value: attune_domain::Uid) {
    fields.put("value", &value);
}

fn embedding(fields: &mut Fields<'_>, value: Vec<f32>) {
    fields.put("value", &value);
}

fn embedding_slice(fields: &mut Fields<'_>, value: [f32; 4]) {
    fields.put("value", &value);
}

fn document(fields: &mut Fields<'_>, value: serde_json::Value) {
    fields.put("value", &value);
}

fn headers(fields: &mut Fields<'_>, value: http::HeaderMap) {
    fields.put("value", &value);
}

fn uri(fields: &mut Fields<'_>, value: http::Uri) {
    fields.put("value", &value);
}

fn secret(fields: &mut Fields<'_>, value: attune_config::Secret) {
    fields.put("value", &value);
}

fn bytes(fields: &mut Fields<'_>, value: bytes::Bytes) {
    fields.put("value", &value);
}

fn error(fields: &mut Fields<'_>, value: std::io::Error) {
    fields.put("value", &value);
}

fn any_error(fields: &mut Fields<'_>, value: Box<dyn std::error::Error>) {
    fields.put("value", &value);
}

fn main() {}
