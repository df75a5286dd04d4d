//! The seal: a crate outside cannot declare a type of its own to be loggable.

struct RawUserId(String);

impl attune_telemetry::Loggable for RawUserId {
    const SHAPE: attune_telemetry::Shape = attune_telemetry::Shape::Integer;

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
    }
}

fn main() {}
