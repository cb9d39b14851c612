{{/* Configurations of the two Envoys. Their admin interface, which can end the process, is on the loopback only. */}}

{{- define "kfp.envoyAdmin" -}}
admin:
  address:
    socket_address: {address: 127.0.0.1, port_value: 9901}
{{- end }}

{{/* A cluster. Of a list: its name, the Service, the port, whether HTTP/2 is spoken to it. */}}
{{- define "kfp.envoyCluster" -}}
- name: {{ index . 0 }}
  type: LOGICAL_DNS
  connect_timeout: 30s
  {{- if index . 3 }}
  typed_extension_protocol_options:
    envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
      "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
      explicit_http_config:
        http2_protocol_options: {}
  {{- end }}
  load_assignment:
    cluster_name: {{ index . 0 }}
    endpoints:
      - lb_endpoints:
          - endpoint:
              address:
                socket_address: {address: {{ index . 1 }}, port_value: {{ index . 2 }}}
{{- end }}

{{/* gRPC-Web from KFP's page to ML Metadata. Upstream lets every origin in; here a browser comes through KFP's own page,
     which is one. */}}
{{- define "kfp.metadataEnvoy" -}}
{{ include "kfp.envoyAdmin" . }}
static_resources:
  listeners:
    - name: web
      address:
        socket_address: {address: 0.0.0.0, port_value: 9090}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: web
                http_filters:
                  - name: envoy.filters.http.grpc_web
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                route_config:
                  virtual_hosts:
                    - name: metadata
                      domains: ["*"]
                      routes:
                        - match: {prefix: /}
                          route:
                            cluster: metadata
                            # as long as the caller's grpc-timeout says
                            max_stream_duration: {grpc_timeout_header_max: 0s}
  clusters:
    {{- include "kfp.envoyCluster" (list "metadata" "metadata-grpc-service" 8080 true) | nindent 4 }}
{{- end }}

{{/* The way of a team's pods to the API server, which takes the user's name from a header: here it is taken off. */}}
{{- define "kfp.teamsEnvoy" -}}
{{- $header := .Values.kfp.userId.header -}}
{{ include "kfp.envoyAdmin" . }}
static_resources:
  listeners:
    {{- range $name, $port := dict "http" 8888 "grpc" 8887 }}
    - name: {{ $name }}
      address:
        socket_address: {address: 0.0.0.0, port_value: {{ $port }}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: {{ $name }}
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                route_config:
                  request_headers_to_remove: [{{ $header | quote }}]
                  virtual_hosts:
                    - name: ml-pipeline
                      domains: ["*"]
                      routes:
                        - match: {prefix: /}
                          route:
                            cluster: {{ $name }}
                            # a pipeline's upload, and what is streamed, take as long as they take
                            timeout: 0s
    {{- end }}
  clusters:
    {{- include "kfp.envoyCluster" (list "http" "ml-pipeline" 8888 false) | nindent 4 }}
    {{- include "kfp.envoyCluster" (list "grpc" "ml-pipeline" 8887 true) | nindent 4 }}
{{- end }}
