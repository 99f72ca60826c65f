package hub

import (
	"crypto/tls"
	"fmt"

	"minato.example/internal/ca"
	"minato.example/internal/config"
	"minato.example/internal/seal"
)

// Config is a hub's configuration, read from hub.toml. Only Port is required.
type Config struct {
	// Port is the id of the port; the community of that name is every member.
	Port string `toml:"port"`
	// Listen is the address of the gRPC listener, host:port.
	// Empty means 127.0.0.1:7443.
	Listen string `toml:"listen"`
	// NATS is the address of the NATS listener, host:port. Empty means none:
	// members then receive over gRPC.
	NATS string `toml:"nats"`
	// Address is where members reach the gRPC listener; tokens carry it.
	// Empty means Listen.
	Address string `toml:"address"`
	// NATSAddress is where members reach the NATS listener. Empty means NATS.
	NATSAddress string `toml:"nats_address"`
	// MaxReportBytes bounds one encoded report. Zero means 1 MiB, which is
	// also the most.
	MaxReportBytes int64 `toml:"max_report_bytes"`
	// MaxPartBytes bounds one part of a report. Zero means 16 MiB.
	MaxPartBytes int64 `toml:"max_part_bytes"`
	// MaxPartsBytes bounds all parts of one report. Zero means 64 MiB.
	MaxPartsBytes int64 `toml:"max_parts_bytes"`
	// MaxStoreBytes bounds the journal on disk. Zero means four fifths of what
	// is free when the hub starts.
	MaxStoreBytes int64 `toml:"max_store_bytes"`
	// Crypto is default or cryptrec: the algorithms of TLS. Empty means
	// default.
	Crypto string `toml:"crypto"`
	// LogLevel is debug, info, warn or error. Empty means info.
	LogLevel string `toml:"log_level"`

	// Dir is the hub's directory: that of hub.toml.
	Dir string `toml:"-"`
}

// ReadConfig reads hub.toml. An unknown key is an error that shows its line.
func ReadConfig(path string) (c Config, err error) {
	c.Dir, err = config.Read(path, &c, c.fill)
	return c, err
}

// fill sets the documented defaults and checks the rest.
func (c *Config) fill() error {
	if !ca.ValidID(c.Port) {
		return fmt.Errorf("port = %q: 1 to 63 characters of a-z, 0-9 and hyphen", c.Port)
	}
	setDefault(&c.Listen, "127.0.0.1:7443")
	setDefault(&c.Address, c.Listen)
	setDefault(&c.NATSAddress, c.NATS)
	setDefault(&c.MaxReportBytes, 1<<20)
	setDefault(&c.MaxPartBytes, 16<<20)
	setDefault(&c.MaxPartsBytes, 64<<20)
	setDefault(&c.Crypto, "default")
	setDefault(&c.LogLevel, "info")
	if _, err := seal.ProfileOf(c.Crypto); err != nil {
		return err
	}
	if c.MaxReportBytes < 0 || c.MaxReportBytes > 1<<20 {
		return fmt.Errorf("max_report_bytes = %d: 1 to %d", c.MaxReportBytes, 1<<20)
	}
	if c.MaxPartBytes < 0 || c.MaxPartsBytes < c.MaxPartBytes {
		return fmt.Errorf("max_parts_bytes = %d: at least max_part_bytes (%d)", c.MaxPartsBytes, c.MaxPartBytes)
	}
	return nil
}

// groups are those that the profile of algorithms allows in TLS.
func (c *Config) groups() []tls.CurveID {
	p, _ := seal.ProfileOf(c.Crypto) // fill has checked it
	return p.Groups
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
