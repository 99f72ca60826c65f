package node_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"minato.example/internal/porttest"
	"minato.example/node"
	pb "minato.example/proto/minato/v1"
)

const bundle = `{"type":"bundle","id":"bundle--5d0092c5-5f74-4287-9642-33f4c354e56d","objects":[
{"type":"indicator","spec_version":"2.1","id":"indicator--a932fcc6-e032-476c-826f-cb970a5a1ade",
"created":"2026-01-01T00:00:00.000Z","modified":"2026-01-01T00:00:00.000Z","valid_from":"2026-01-01T00:00:00Z",
"pattern":"[ipv4-addr:value = '198.51.100.7']","pattern_type":"stix"}]}`

// port runs a port of two terminals in a directory of its own.
func port() (*porttest.Port, func() error, error) {
	dir, err := os.MkdirTemp("", "port")
	if err != nil {
		return nil, nil, err
	}
	p, err := porttest.Start(context.Background(), dir, "minato", []porttest.Member{
		{ID: "terminal-a", Name: "東ターミナル", Role: pb.Role_ROLE_OPERATOR, Profile: porttest.Profile("東ターミナル")},
		{ID: "terminal-b", Name: "西ターミナル", Role: pb.Role_ROLE_OPERATOR, Profile: porttest.Profile("西ターミナル")},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	return p, func() error {
		if err := p.Stop(); err != nil {
			return err
		}
		return os.RemoveAll(dir)
	}, nil
}

// A program publishes a report with its indicators through the node of its
// organisation. Only the node's directory is needed; here it is that of a port
// made for the example.
func ExampleClient() {
	p, stop, err := port()
	if err != nil {
		log.Fatal(err)
	}
	client, err := node.Dial(p.NodeDir("terminal-a"))
	if err != nil {
		log.Fatal(err)
	}
	part, err := client.AddPart(context.Background(), &pb.Part{
		Name: "bundle.json", MediaType: "application/stix+json;version=2.1", Class: pb.DisclosureClass_DISCLOSURE_CLASS_TECHNIQUE,
	}, strings.NewReader(bundle))
	if err != nil {
		log.Fatal(err)
	}
	item, err := client.Publish(context.Background(), &pb.Report{
		Lane: pb.Lane_LANE_LIVE,
		Tlp:  pb.TlpLabel_TLP_LABEL_AMBER, Recipients: []*pb.Recipient{{Member: "terminal-b"}},
		Title: "不審な通信", Summary: "198.51.100.7 への通信を検知した。",
		AttackTechnical: &pb.AttackTechnical{StixBundle: part},
	}, 30*time.Second)
	if err != nil {
		log.Fatal(err) // nothing has been published
	}
	fmt.Println(item.GetState())
	for _, c := range item.GetPlan().GetCopies() {
		fmt.Println(c.GetMember(), c.GetGrounds()[0].GetRule())
	}
	if err := client.Close(); err != nil {
		log.Fatal(err)
	}
	if err := stop(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// OUTBOX_STATE_ACCEPTED
	// terminal-b R10
}

func TestClientReadsTheInboxUntilItsCallerHasEnough(t *testing.T) {
	p, stop, err := port()
	require.NoError(t, err)
	defer func() { require.NoError(t, stop()) }()
	a, err := node.Dial(p.NodeDir("terminal-a"))
	require.NoError(t, err)
	defer a.Close()
	b, err := node.Dial(p.NodeDir("terminal-b"))
	require.NoError(t, err)
	defer b.Close()
	for i := range 3 {
		item, err := a.Publish(t.Context(), &pb.Report{Lane: pb.Lane_LANE_LIVE, Kind: pb.Kind_KIND_NOTICE, Tlp: pb.TlpLabel_TLP_LABEL_CLEAR, Title: fmt.Sprint(i), Summary: "概要"}, 30*time.Second)
		require.NoError(t, err)
		require.Equal(t, pb.OutboxState_OUTBOX_STATE_ACCEPTED, item.GetState(), "%v", item)
	}
	enough := fmt.Errorf("enough")
	var titles []string
	err = b.Inbox(t.Context(), pb.Lane_LANE_LIVE, func(item *pb.InboxItem) error {
		titles = append(titles, item.GetTitle())
		if len(titles) == 3 {
			return enough
		}
		return nil
	})
	require.ErrorIs(t, err, enough)
	require.Equal(t, []string{"0", "1", "2"}, titles)
	ctx, cancel := context.WithCancel(t.Context())
	err = b.Inbox(ctx, pb.Lane_LANE_LIVE, func(*pb.InboxItem) error { cancel(); return nil })
	require.NoError(t, err, "the caller's end is no error")
}

func TestClientSaysWhatIsWrongWithAPart(t *testing.T) {
	p, stop, err := port()
	require.NoError(t, err)
	defer func() { require.NoError(t, stop()) }()
	c, err := node.Dial(p.NodeDir("terminal-a"))
	require.NoError(t, err)
	defer c.Close()
	_, err = c.AddPart(t.Context(), &pb.Part{Name: "empty.txt"}, strings.NewReader(""))
	require.ErrorContains(t, err, "empty.txt")
	_, err = c.AddPart(t.Context(), nil, strings.NewReader("x"))
	require.ErrorContains(t, err, "part")
	size := 3*(256<<10) + 1
	part, err := c.AddPart(t.Context(), &pb.Part{Name: "large.bin"}, strings.NewReader(strings.Repeat("x", size)))
	require.NoError(t, err)
	require.Equal(t, uint64(size), part.GetSize())
	broken := fmt.Errorf("the disk is gone")
	_, err = c.AddPart(t.Context(), &pb.Part{Name: "broken.bin"}, iotest.ErrReader(broken))
	require.ErrorIs(t, err, broken)
}
