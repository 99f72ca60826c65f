// Package stix reads what the port exchanges as STIX 2.1 and as plain text: it
// scans bundles strictly and finds the observables (IP addresses, domains, URLs,
// mail addresses, hashes) in them and in free text, plain or defanged. It does
// no I/O; time and memory are linear in the input.
package stix

import pb "minato.example/proto/minato/v1"

// Observable is one value that helps others to find an attack, in a normal form:
// two spellings of the same thing are equal.
type Observable struct {
	Type  pb.IndicatorType
	Value string // 1 to 2,048 bytes
}

// maxValue is the most bytes an observable may have (Indicator.value in the
// contract).
const maxValue = 2048

// Summary is what Scan finds in a bundle.
type Summary struct {
	// ID of the bundle.
	ID string
	// Objects counts the entries of the bundle's objects.
	Objects int
	// Observables without repetition, in the order of the bundle.
	Observables []Observable
}

// collection keeps observables in order and drops repetitions.
type collection struct {
	seen map[Observable]struct{}
	list []Observable
}

func (c *collection) add(o Observable) {
	if _, known := c.seen[o]; known {
		return
	}
	if c.seen == nil {
		c.seen = make(map[Observable]struct{})
	}
	c.seen[o] = struct{}{}
	c.list = append(c.list, o)
}
