package node

import (
	"context"

	"google.golang.org/grpc/codes"

	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
)

// SaveDraft keeps a report that is not finished. Nothing of it is checked.
func (n *Node) SaveDraft(ctx context.Context, req *pb.SaveDraftRequest) (*pb.SaveDraftResponse, error) {
	if req.GetReport() == nil {
		return nil, rpc.Refuse(codes.InvalidArgument, "REPORT_MISSING", "report", "報告がありません。", "The report is missing.")
	}
	id := req.GetDraft()
	if id == "" {
		id = randomID()
	}
	d, err := n.store.saveDraft(ctx, id, req.GetReport())
	if err != nil {
		return nil, err
	}
	return &pb.SaveDraftResponse{Draft: d}, nil
}

// ListDrafts lists the drafts, newest first.
func (n *Node) ListDrafts(ctx context.Context, req *pb.ListDraftsRequest) (*pb.ListDraftsResponse, error) {
	drafts, next, err := n.store.listDrafts(ctx, int(req.GetPageSize()), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	return &pb.ListDraftsResponse{Drafts: drafts, NextPageToken: next}, nil
}

// DeleteDraft removes a draft.
func (n *Node) DeleteDraft(ctx context.Context, req *pb.DeleteDraftRequest) (*pb.DeleteDraftResponse, error) {
	if err := n.store.deleteDraft(ctx, req.GetDraft()); err != nil {
		return nil, err
	}
	return &pb.DeleteDraftResponse{}, nil
}
