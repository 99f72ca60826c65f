package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
)

// Client is a program's way to its own node: it publishes reports and reads
// the inbox. It is safe for concurrent use.
type Client struct {
	conn *grpc.ClientConn
	node pb.NodeServiceClient
}

// Dial reaches the running node whose directory is dir.
func Dial(dir string) (*Client, error) {
	conn, err := rpc.DialLocal(Socket(dir))
	if err != nil {
		return nil, err
	}
	return &Client{conn: conn, node: pb.NewNodeServiceClient(conn)}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// AddPart stores bytes beside a report to come and returns the part to put
// into it. meta says name, media type and class.
func (c *Client) AddPart(ctx context.Context, meta *pb.Part, r io.Reader) (*pb.Part, error) {
	ctx, cancel := context.WithCancel(ctx) // the node drops what is not finished
	defer cancel()
	stream, err := c.node.AddPart(ctx)
	if err != nil {
		return nil, err
	}
	m := &pb.AddPartRequest{Part: meta}
	buf := make([]byte, chunkSize)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 || m.GetPart() != nil {
			m.Data = buf[:n]
			if stream.Send(m) != nil {
				break // CloseAndRecv has the reason
			}
			m = &pb.AddPartRequest{}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read part: %w", err)
		}
	}
	resp, err := stream.CloseAndRecv()
	if err != nil {
		return nil, err
	}
	return resp.GetPart(), nil
}

// Publish hands a report to the node and waits up to wait for the hub's
// answer. The report is safe when Publish returns without an error: its state
// says whether it is accepted, refused with reasons, or still queued. At least
// label, title and summary are needed; the node fills the rest.
func (c *Client) Publish(ctx context.Context, r *pb.Report, wait time.Duration) (*pb.OutboxItem, error) {
	resp, err := c.node.PublishReport(ctx, &pb.PublishReportRequest{Report: r, Wait: durationpb.New(wait)})
	if err != nil {
		return nil, err
	}
	return resp.GetItem(), nil
}

// Inbox calls fn for each report of a lane, oldest first, then for each that
// arrives, until ctx ends or fn returns an error.
func (c *Client) Inbox(ctx context.Context, lane pb.Lane, fn func(*pb.InboxItem) error) error {
	stream, err := c.node.WatchInbox(ctx, &pb.WatchInboxRequest{Lane: lane, Follow: true})
	if err != nil {
		return err
	}
	for {
		resp, err := stream.Recv()
		if ctx.Err() != nil || errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := fn(resp.GetItem()); err != nil {
			return err
		}
	}
}
