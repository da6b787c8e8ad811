module openshift-api

go 1.26.0

require github.com/openshift/api v0.0.0-20260813212709-d4bb0b443cb8
