{{/* What a schema cannot say. All problems are reported together. */}}

{{- define "attune-lib.check" -}}
{{- $values := .Values -}}
{{- $services := include "attune-lib.services" . | fromYaml -}}
{{- $problems := list -}}
{{- if not $values.image.repository -}}
{{- $problems = append $problems "image.repository: name the image" -}}
{{- end -}}
{{- if and $values.services.attune.enabled (gt (len $services) 1) -}}
{{- $problems = append $problems "services.attune.enabled: one process instead of the others, so disable those (values-dev.yaml does)" -}}
{{- end -}}
{{- if not $services -}}
{{- $problems = append $problems "services: none is enabled" -}}
{{- end -}}
{{- range $name, $each := $services -}}
{{- $service := $each.service -}}
{{- if and (has "bundle" $each.facts.reads) (eq (empty $values.model.claim) (empty $values.model.image)) -}}
{{- $problems = append $problems (printf "model: %s reads the bundle: name either claim or image" $name) -}}
{{- end -}}
{{- if and (has "subjectKey" $each.facts.reads) (not $values.subjectKey.existingSecret) -}}
{{- $problems = append $problems (printf "subjectKey.existingSecret: %s turns user ids into pseudonyms with it" $name) -}}
{{- end -}}
{{- range $each.facts.calls -}}
{{- if not (or (hasKey $services .) (and (eq . "origin") $values.externalOrigin)) -}}
{{- $problems = append $problems (printf "services.%s.enabled: %s calls it%s" . $name (ternary ", here or at externalOrigin" "" (eq . "origin"))) -}}
{{- end -}}
{{- end -}}
{{- $scaling := $service.autoscaling -}}
{{- $scales := ne $scaling.kind "none" -}}
{{- if and $scales (gt (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- $problems = append $problems (printf "services.%s.autoscaling: minReplicas is above maxReplicas" $name) -}}
{{- end -}}
{{- if and (eq $scaling.kind "keda") (not (has $name (list "ranking" "embedder"))) -}}
{{- $problems = append $problems (printf "services.%s.autoscaling.kind: keda knows what ranking and embedder wait for; use hpa" $name) -}}
{{- end -}}
{{- if and (has $name (list "origin" "attune")) (or $scales (ne (int $service.replicas) 1)) -}}
{{- $problems = append $problems (printf "services.%s.replicas: it owns the decision log, so there is one" $name) -}}
{{- end -}}
{{- if and (eq $name "embedder") (or $scales (gt (int $service.replicas) 1)) -}}
{{- if not (and $values.kafka.brokers $values.redis.url) -}}
{{- $problems = append $problems "services.embedder: more than one needs kafka.brokers and redis.url, because an embedded store has one owner" -}}
{{- end -}}
{{- $most := ternary (int $scaling.maxReplicas) (int $service.replicas) $scales -}}
{{- if gt $most (int $values.kafka.partitions) -}}
{{- $problems = append $problems (printf "services.embedder: %d copies share %d partitions (kafka.partitions): some would have nothing to do" $most (int $values.kafka.partitions)) -}}
{{- end -}}
{{- end -}}
{{- if and $each.facts.keeps (dig "persistence" "existingClaim" "" $service) (or $scales (gt (int $service.replicas) 1)) -}}
{{- $problems = append $problems (printf "services.%s.persistence.existingClaim: one claim is for one copy" $name) -}}
{{- end -}}
{{- end -}}
{{- if ne (empty $values.kafka.sasl.username) (empty $values.kafka.sasl.existingSecret) -}}
{{- $problems = append $problems "kafka.sasl: username and existingSecret go together" -}}
{{- end -}}
{{- if and $values.kafka.tls.existingSecret (not $values.kafka.tls.enabled) -}}
{{- $problems = append $problems "kafka.tls.enabled: a secret is named, and encryption is off" -}}
{{- end -}}
{{- with $values.llmServer -}}
{{- if and .enabled (or (not .image) (not .model)) -}}
{{- $problems = append $problems "llmServer: name image and model" -}}
{{- end -}}
{{- end -}}
{{- with $values.gateway -}}
{{- if and .enabled (not .parentRefs) -}}
{{- if or (not .gatewayClassName) (not .hostnames) -}}
{{- $problems = append $problems "gateway: name parentRefs, or gatewayClassName and hostnames for a Gateway of the chart's own" -}}
{{- end -}}
{{- if eq (empty .tls.existingSecret) (empty .tls.issuer) -}}
{{- $problems = append $problems "gateway.tls: name either existingSecret or issuer" -}}
{{- end -}}
{{- end -}}
{{- if and .origin.enabled (not .origin.parentRefs) -}}
{{- $problems = append $problems "gateway.origin.parentRefs: name the Gateway that edges elsewhere reach" -}}
{{- end -}}
{{- if and .enabled (not (or $values.services.edge.enabled $values.services.attune.enabled)) -}}
{{- $problems = append $problems "gateway.enabled: there is no edge to route to" -}}
{{- end -}}
{{- end -}}
{{- if and $values.hooks.topics.enabled (not $values.kafka.brokers) -}}
{{- $problems = append $problems "hooks.topics.enabled: there are no kafka.brokers" -}}
{{- end -}}
{{- if and $values.hooks.topics.enabled (or $values.kafka.tls.enabled $values.kafka.sasl.username) -}}
{{- $problems = append $problems "hooks.topics.enabled: the job speaks to brokers without encryption and login only; make the topics of observability/kafka/log-topics.yaml yourself" -}}
{{- end -}}
{{- if and $values.hooks.index.enabled (not $values.hooks.index.url) -}}
{{- $problems = append $problems "hooks.index.url: name the OpenSearch" -}}
{{- end -}}
{{- if $problems -}}
{{- fail (printf "\n  %s" (join "\n  " $problems)) -}}
{{- end -}}
{{- end -}}
