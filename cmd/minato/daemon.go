package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/coreos/go-systemd/v22/daemon"
)

// served is what runs until its context ends: a hub or a node.
type served interface {
	// Run blocks until ctx ends and everything that it started has ended.
	Run(ctx context.Context) error
	// Ready is closed when calls are answered.
	Ready() <-chan struct{}
	// Close frees what opening took, after Run.
	Close() error
}

// readiness is what a daemon says of itself once it serves.
type readiness struct {
	Ready  string `json:"ready"` // "hub" or "node"
	Port   string `json:"port"`
	Member string `json:"member,omitempty"`
	Node   uint32 `json:"node,omitempty"`
	Addr   string `json:"address,omitempty"`
	NATS   string `json:"nats,omitempty"`
}

func (r readiness) String() string {
	line := "ready " + r.Ready + " port=" + r.Port
	if r.Member != "" {
		line += fmt.Sprintf(" member=%s node=%d", r.Member, r.Node)
	}
	if r.Addr != "" {
		line += " address=" + r.Addr
	}
	if r.NATS != "" {
		line += " nats=" + r.NATS
	}
	return line
}

// serve runs a daemon until SIGTERM or SIGINT. It prints one line when the
// daemon serves and tells systemd of the beginning and the end.
func (a *app) serve(ctx context.Context, d served, about func() readiness) error {
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(d.Run(ctx), d.Close()) }()

	select {
	case err := <-ended:
		return a.stopped(ctx, err)
	case <-d.Ready():
	}
	if err := a.announce(about()); err != nil {
		slog.Warn("ready line not written", "err", err)
	}
	a.notify(daemon.SdNotifyReady)

	select {
	case err := <-ended:
		a.notify(daemon.SdNotifyStopping)
		return a.stopped(ctx, err)
	case <-ctx.Done():
		a.notify(daemon.SdNotifyStopping)
		return a.stopped(ctx, <-ended)
	}
}

func (a *app) announce(r readiness) error {
	if a.json {
		return a.emitValue(r)
	}
	_, err := fmt.Fprintln(a.out, r)
	return err
}

// notify reaches systemd, if it started this process.
func (a *app) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		slog.Warn("systemd not notified", "err", err)
	}
}

// stopped is the result of a daemon: an end that was asked for is no error.
func (a *app) stopped(ctx context.Context, err error) error {
	if err == nil || ended(ctx, err) {
		return nil
	}
	return startFailed(err)
}

// startFailed is the failure of a daemon: exit code 1 whatever the cause, so
// that a supervisor tries again.
func startFailed(err error) error {
	return &failure{code: exitFailed, what: textOf(err), err: err}
}

// logger writes JSON lines to stderr at the level of the configuration, and is
// the default for everything that logs in this process.
func (a *app) logger(level string) (*slog.Logger, error) {
	var l slog.Level
	if level != "" {
		if err := l.UnmarshalText([]byte(level)); err != nil {
			return nil, &failure{code: exitFailed, err: err,
				what: textf("log_level の値 %q は使えません", "log_level cannot be %q", cut(plain(level), 40)),
				next: Text{"debug, info, warn, error のどれかにしてください", "use debug, info, warn or error"}}
		}
	}
	log := slog.New(slog.NewJSONHandler(a.err, &slog.HandlerOptions{Level: l}))
	slog.SetDefault(log)
	return log, nil
}
