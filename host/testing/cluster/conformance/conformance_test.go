// Package conformance runs the Gateway API conformance suite as it is: everything is said by flags.
package conformance

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

// TestConformance takes the suite's own flags (`-args --help` lists them).
func TestConformance(t *testing.T) {
	conformance.RunConformance(t)
}
