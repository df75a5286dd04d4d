# docker buildx bake -f helm/images/docker-bake.hcl [TARGET...]
#
# One target for each program. Ranking has no CUDA variant: its crate has no such feature; `cargo xtask check deploy images`
# asks for a target as soon as it has one.

variable "REGISTRY" {
  description = "What stands before every image's name"
  default     = "attune"
}
variable "VERSION" {
  default = "0.1.0"
}
variable "REVISION" {
  description = "The commit that is built"
  default     = "unknown"
}
variable "CREATED" {
  default = "1970-01-01T00:00:00Z"
}
variable "FEATURES" {
  description = "Features of the packages, separated by commas"
  default     = ""
}
variable "PLATFORMS" {
  description = "As linux/amd64,linux/arm64; the builder's own where it is empty"
  default     = ""
}
variable "RELEASE" {
  description = "A release builds on digests alone"
  default     = false
}
variable "RUST" {
  description = "What programs are built in"
  default     = "docker.io/library/rust:1.95.0-bookworm"
  validation {
    condition     = !RELEASE || length(regexall("@sha256:[0-9a-f]{64}$", RUST)) > 0
    error_message = "RUST must be named by digest in a release: NAME@sha256:..."
  }
}
variable "BASE" {
  description = "What programs run on: glibc, libgcc and the certificates of authorities; no shell"
  default     = "gcr.io/distroless/cc-debian12:nonroot"
  validation {
    condition     = !RELEASE || length(regexall("@sha256:[0-9a-f]{64}$", BASE)) > 0
    error_message = "BASE must be named by digest in a release: NAME@sha256:..."
  }
}

group "default" {
  targets = ["program"]
}

target "program" {
  name = item.program
  matrix = {
    item = [
      { program = "attune", ports = "8080 9101 9002" },
      { program = "attune-edge", ports = "8080 9101" },
      { program = "attune-origin", ports = "9002 9102" },
      { program = "attune-retrieval", ports = "9003 9103" },
      { program = "attune-ranking", ports = "9004 9104" },
      { program = "attune-bandit", ports = "9005 9105" },
      { program = "attune-llm", ports = "9006 9106" },
      { program = "attune-embedder", ports = "9007 9107" },
    ]
  }
  context    = "."
  dockerfile = "helm/images/Dockerfile"
  target     = "service"
  platforms  = compact(split(",", PLATFORMS))
  args = {
    RUST     = RUST
    BASE     = BASE
    FEATURES = FEATURES
    PROGRAM  = item.program
    PORTS    = item.ports
    VERSION  = VERSION
    REVISION = REVISION
    CREATED  = CREATED
  }
  tags = ["${REGISTRY}/${item.program}:${VERSION}"]
  annotations = [
    "index,manifest:org.opencontainers.image.title=${item.program}",
    "index,manifest:org.opencontainers.image.version=${VERSION}",
    "index,manifest:org.opencontainers.image.revision=${REVISION}",
    "index,manifest:org.opencontainers.image.licenses=Apache-2.0",
  ]
  attest = ["type=sbom", "type=provenance,mode=max"]
}
