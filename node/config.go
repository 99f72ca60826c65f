package node

import (
	"errors"
	"fmt"

	"minato.example/internal/ca"
	"minato.example/internal/config"
	"minato.example/internal/seal"
)

// Transport is how a node receives its deliveries.
type Transport string

const (
	// NATS receives over the hub's NATS listener, sealed with a session key.
	NATS Transport = "nats"
	// GRPC receives over the hub's gRPC listener, for members who cannot open
	// another port.
	GRPC Transport = "grpc"
)

// Config is a node's configuration, read from node.toml, which `minato node
// join` writes.
type Config struct {
	// Hub is the address of the hub's gRPC listener, host:port. Required.
	Hub string `toml:"hub"`
	// NATS is the address of the hub's NATS listener. Required for that
	// transport.
	NATS string `toml:"nats"`
	// Transport is nats or grpc. Empty means nats where NATS is set.
	Transport Transport `toml:"transport"`
	// Port is the id of the port. Required.
	Port string `toml:"port"`
	// Member is the id of the member. Required.
	Member string `toml:"member"`
	// Node is the number of this node, 1 for the first. Required.
	Node uint32 `toml:"node"`
	// Crypto is default or cryptrec: the algorithms of TLS and of the keys to
	// which reports are sealed. Empty means default.
	Crypto string `toml:"crypto"`
	// LogLevel is debug, info, warn or error. Empty means info.
	LogLevel string `toml:"log_level"`

	// Dir is the node's directory: that of node.toml.
	Dir string `toml:"-"`
}

// ReadConfig reads node.toml. An unknown key is an error that shows its line.
func ReadConfig(path string) (c Config, err error) {
	c.Dir, err = config.Read(path, &c, c.fill)
	return c, err
}

// fill sets the documented defaults and checks the rest.
func (c *Config) fill() error {
	if c.Transport == "" {
		c.Transport = GRPC
		if c.NATS != "" {
			c.Transport = NATS
		}
	}
	if c.Crypto == "" {
		c.Crypto = "default"
	}
	if _, err := seal.ProfileOf(c.Crypto); err != nil {
		return err
	}
	if c.LogLevel == "" {
		c.LogLevel = "info"
	}
	switch {
	case c.Hub == "":
		return errors.New("hub is missing: host:port of the hub")
	case !ca.ValidID(c.Port):
		return fmt.Errorf("port = %q: 1 to 63 characters of a-z, 0-9 and hyphen", c.Port)
	case !ca.ValidID(c.Member):
		return fmt.Errorf("member = %q: 1 to 63 characters of a-z, 0-9 and hyphen", c.Member)
	case c.Node == 0:
		return errors.New("node is missing: the number of this node, 1 for the first")
	case c.Transport != NATS && c.Transport != GRPC:
		return fmt.Errorf("transport = %q: nats or grpc", c.Transport)
	case c.Transport == NATS && c.NATS == "":
		return errors.New("nats is missing: host:port of the hub's NATS listener, or set transport = \"grpc\"")
	}
	return nil
}

// profile is the choice of algorithms.
func (c *Config) profile() seal.Profile {
	p, _ := seal.ProfileOf(c.Crypto) // fill has checked it
	return p
}
