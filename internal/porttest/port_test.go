package porttest_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"minato.example/internal/porttest"
	pb "minato.example/proto/minato/v1"
)

// start runs a port in a short directory: the path of a Unix socket is bounded.
func start(t testing.TB, members ...porttest.Member) *porttest.Port {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("MINATO_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return startWith(t, log, members...)
}

func startWith(t testing.TB, log *slog.Logger, members ...porttest.Member) *porttest.Port {
	t.Helper()
	dir, err := os.MkdirTemp("", "port")
	require.NoError(t, err)
	p, err := porttest.Start(context.Background(), dir, "testport", members, log)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, p.Stop())
		require.NoError(t, os.RemoveAll(dir))
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, m := range members {
		require.NoError(t, p.Connected(ctx, m.ID))
	}
	return p
}

// inbox is what a member's node has received in the live lane.
func inbox(t testing.TB, p *porttest.Port, member string) (items []*pb.InboxItem) {
	t.Helper()
	return laneOf(t, p, member, pb.Lane_LANE_LIVE)
}

func laneOf(t testing.TB, p *porttest.Port, member string, lane pb.Lane) (items []*pb.InboxItem) {
	t.Helper()
	stream, err := p.Node(member).WatchInbox(context.Background(), &pb.WatchInboxRequest{Lane: lane})
	require.NoError(t, err)
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return items
		}
		require.NoError(t, err)
		items = append(items, resp.GetItem())
	}
}

// arrival waits until a report is in a member's inbox.
func arrival(t testing.TB, p *porttest.Port, member, report string) *pb.InboxItem {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, lane := range []pb.Lane{pb.Lane_LANE_LIVE, pb.Lane_LANE_EXERCISE} {
		for _, item := range laneOf(t, p, member, lane) {
			if item.GetReport() == report {
				return item
			}
		}
	}
	stream, err := p.Node(member).WatchInbox(ctx, &pb.WatchInboxRequest{Follow: true})
	require.NoError(t, err)
	for {
		resp, err := stream.Recv()
		require.NoError(t, err, "%s waits for report %s", member, report)
		if resp.GetItem().GetReport() == report {
			return resp.GetItem()
		}
	}
}
