//go:build tools

// Names what `go build` is asked for, so that go.mod and go.sum hold it to these versions.
package h2spec

import _ "github.com/summerwind/h2spec/cmd/h2spec"
