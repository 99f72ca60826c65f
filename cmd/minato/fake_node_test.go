package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

// fakeNode answers on a real socket what a test tells it to, and remembers what
// it was asked.
type fakeNode struct {
	pb.UnimplementedNodeServiceServer
	dir string

	outcome  *pb.OutboxItem // what becomes of a published report
	failure  error          // answers every call
	plan     *pb.Plan
	inbox    []*pb.InboxItem
	outbox   []*pb.OutboxItem
	reports  map[string]*pb.GetReportResponse
	parts    map[string][]byte
	recorded bool
	profile  *pb.Profile
	members  []*pb.Member

	drafts      []*pb.Draft
	explanation *pb.ExplainReportResponse
	status      *pb.GetStatusResponse

	published *pb.Report
	stored    int
	acked     *pb.AcknowledgeRequest
	forwarded *pb.ForwardReportRequest
	decided   *pb.DecideStepRequest
	explained *pb.NodeServiceExplainReportRequest
	narrowed  *pb.NarrowReportRequest
	keyed     *pb.SetPersonKeyRequest
	confirmed *pb.ConfirmKeyRequest

	sealed *pb.GetSealedResponse

	keyFailure error // answers SetPersonKey only
}

// startNode runs a fake node in a folder with a short path: that of a Unix
// socket is bounded.
func startNode(t *testing.T) *fakeNode {
	t.Helper()
	dir, err := os.MkdirTemp("", "mn")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.WriteFile(filepath.Join(dir, "node.toml"), nil, 0o600))
	listener, err := net.Listen("unix", filepath.Join(dir, "node.sock"))
	require.NoError(t, err)
	n := &fakeNode{dir: dir, reports: map[string]*pb.GetReportResponse{}, parts: map[string][]byte{}}
	server := grpc.NewServer()
	pb.RegisterNodeServiceServer(server, n)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; !errors.Is(err, grpc.ErrServerStopped) { // stopped before it began
			require.NoError(t, err)
		}
	})
	return n
}

func (n *fakeNode) AddPart(stream pb.NodeService_AddPartServer) error {
	var part *pb.Part
	var data []byte
	for {
		piece, err := stream.Recv()
		if err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		if piece.GetPart() != nil {
			part = piece.GetPart()
		}
		data = append(data, piece.GetData()...)
	}
	digest := sha256.Sum256(data)
	part.Digest, part.Size = digest[:], uint64(len(data))
	n.parts[string(digest[:])] = data
	n.stored++
	return stream.SendAndClose(&pb.AddPartResponse{Part: part})
}

func (n *fakeNode) PublishReport(_ context.Context, req *pb.PublishReportRequest) (*pb.PublishReportResponse, error) {
	if n.failure != nil {
		return nil, n.failure
	}
	n.published = req.GetReport()
	item := proto.CloneOf(n.outcome)
	item.Title, item.Lane = req.GetReport().GetTitle(), req.GetReport().GetLane()
	return &pb.PublishReportResponse{Item: item}, nil
}

func (n *fakeNode) PlanReport(_ context.Context, req *pb.NodeServicePlanReportRequest) (*pb.NodeServicePlanReportResponse, error) {
	return &pb.NodeServicePlanReportResponse{Plan: n.plan}, n.failure
}

func (n *fakeNode) ExplainReport(_ context.Context, req *pb.NodeServiceExplainReportRequest) (*pb.NodeServiceExplainReportResponse, error) {
	n.explained = req
	return &pb.NodeServiceExplainReportResponse{Explanation: n.explanation}, n.failure
}

func (n *fakeNode) ForwardReport(_ context.Context, req *pb.ForwardReportRequest) (*pb.ForwardReportResponse, error) {
	n.forwarded = req
	return &pb.ForwardReportResponse{Plan: n.plan}, n.failure
}

func (n *fakeNode) DecideStep(_ context.Context, req *pb.DecideStepRequest) (*pb.DecideStepResponse, error) {
	n.decided = req
	return &pb.DecideStepResponse{}, n.failure
}

func (n *fakeNode) NarrowReport(_ context.Context, req *pb.NarrowReportRequest) (*pb.NarrowReportResponse, error) {
	n.narrowed = req
	return &pb.NarrowReportResponse{Item: &pb.InboxItem{Report: reportID, Tlp: tlp.Label(req.GetTlp()).String()}}, n.failure
}

func (n *fakeNode) SaveDraft(_ context.Context, req *pb.SaveDraftRequest) (*pb.SaveDraftResponse, error) {
	id := req.GetDraft()
	if id == "" {
		id = fmt.Sprintf("d%031x", len(n.drafts)+1)
	}
	n.drafts = slices.DeleteFunc(n.drafts, func(d *pb.Draft) bool { return d.GetDraft() == id })
	saved := &pb.Draft{Draft: id, Report: req.GetReport()}
	n.drafts = append(n.drafts, saved)
	return &pb.SaveDraftResponse{Draft: saved}, n.failure
}

func (n *fakeNode) ListDrafts(context.Context, *pb.ListDraftsRequest) (*pb.ListDraftsResponse, error) {
	return &pb.ListDraftsResponse{Drafts: n.drafts}, n.failure
}

func (n *fakeNode) DeleteDraft(_ context.Context, req *pb.DeleteDraftRequest) (*pb.DeleteDraftResponse, error) {
	n.drafts = slices.DeleteFunc(n.drafts, func(d *pb.Draft) bool { return d.GetDraft() == req.GetDraft() })
	return &pb.DeleteDraftResponse{}, n.failure
}

func (n *fakeNode) ListOutbox(context.Context, *pb.ListOutboxRequest) (*pb.ListOutboxResponse, error) {
	return &pb.ListOutboxResponse{Items: n.outbox}, n.failure
}

func (n *fakeNode) WatchInbox(req *pb.WatchInboxRequest, stream pb.NodeService_WatchInboxServer) error {
	for _, item := range n.inbox {
		if item.GetLane() == req.GetLane() {
			if err := stream.Send(&pb.WatchInboxResponse{Item: item}); err != nil {
				return err
			}
		}
	}
	return n.failure
}

func (n *fakeNode) SearchInbox(_ context.Context, req *pb.SearchInboxRequest) (*pb.SearchInboxResponse, error) {
	answer := &pb.SearchInboxResponse{}
	for _, item := range n.inbox {
		if strings.Contains(item.GetTitle(), req.GetQuery()) {
			answer.Items = append(answer.Items, item)
		}
	}
	return answer, n.failure
}

func (n *fakeNode) GetReport(_ context.Context, req *pb.GetReportRequest) (*pb.GetReportResponse, error) {
	if r := n.reports[req.GetReport()]; r != nil {
		return r, nil
	}
	return nil, status.Error(codes.NotFound, "no such report")
}

func (n *fakeNode) GetPart(req *pb.GetPartRequest, stream pb.NodeService_GetPartServer) error {
	data, ok := n.parts[string(req.GetDigest())]
	if !ok {
		return status.Error(codes.NotFound, "no such part")
	}
	return stream.Send(&pb.GetPartResponse{Data: data})
}

func (n *fakeNode) Acknowledge(_ context.Context, req *pb.AcknowledgeRequest) (*pb.AcknowledgeResponse, error) {
	n.acked = req
	return &pb.AcknowledgeResponse{Report: req.GetReport(), Recorded: n.recorded}, n.failure
}

func (n *fakeNode) GetStatus(context.Context, *pb.GetStatusRequest) (*pb.GetStatusResponse, error) {
	if n.status != nil {
		return n.status, n.failure
	}
	return &pb.GetStatusResponse{PortId: "nagoya", Member: "tcb", MemberName: "東ターミナル", Node: 1, HubAddress: "hub:7443", Connected: true}, n.failure
}

func (n *fakeNode) GetProfile(context.Context, *pb.GetProfileRequest) (*pb.GetProfileResponse, error) {
	return &pb.GetProfileResponse{Profile: n.profile}, n.failure
}

func (n *fakeNode) UpdateProfile(_ context.Context, req *pb.UpdateProfileRequest) (*pb.UpdateProfileResponse, error) {
	n.profile = req.GetProfile()
	return &pb.UpdateProfileResponse{Recorded: n.recorded}, n.failure
}

func (n *fakeNode) SetPersonKey(_ context.Context, req *pb.SetPersonKeyRequest) (*pb.SetPersonKeyResponse, error) {
	n.keyed = req
	return &pb.SetPersonKeyResponse{Fingerprint: seal.Fingerprint(req.GetPublicKey())}, n.keyFailure
}

func (n *fakeNode) ConfirmKey(_ context.Context, req *pb.ConfirmKeyRequest) (*pb.ConfirmKeyResponse, error) {
	n.confirmed = req
	return &pb.ConfirmKeyResponse{Fingerprints: []string{"11111 22222"}}, n.failure
}

func (n *fakeNode) GetSealed(context.Context, *pb.GetSealedRequest) (*pb.GetSealedResponse, error) {
	return n.sealed, n.failure
}

func (n *fakeNode) ListPeers(context.Context, *pb.ListPeersRequest) (*pb.ListPeersResponse, error) {
	return &pb.ListPeersResponse{Members: n.members}, n.failure
}

// typedIn runs a command as a script would and returns what it wrote.
func typedIn(env map[string]string, stdin string, args ...string) (code int, out, errs string) {
	var stdout, stderr bytes.Buffer
	code = run(args, terminal{
		in: strings.NewReader(stdin), out: &stdout, err: &stderr,
		env: func(key string) string { return env[key] },
	})
	return code, stdout.String(), stderr.String()
}

// minato runs a command against the fake node.
func (n *fakeNode) minato(args ...string) (code int, out, errs string) {
	return typedIn(map[string]string{"MINATO_NODE": n.dir}, "", args...)
}
