package node

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	pb "minato.example/proto/minato/v1"
)

func TestADraftIsKeptReplacedAndRemoved(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	first, err := s.saveDraft(ctx, strings.Repeat("a", 32), &pb.Report{Title: "書きかけ"})
	require.NoError(t, err)
	_, err = s.saveDraft(ctx, strings.Repeat("b", 32), &pb.Report{Title: "別の件"})
	require.NoError(t, err)
	_, err = s.saveDraft(ctx, first.GetDraft(), &pb.Report{Title: "書き足した", Summary: "一文。"})
	require.NoError(t, err)

	drafts, next, err := s.listDrafts(ctx, 0, "")
	require.NoError(t, err)
	require.Empty(t, next)
	require.Len(t, drafts, 2, "saving again replaces")
	require.Equal(t, "書き足した", drafts[0].GetReport().GetTitle(), "newest first")

	page, next, err := s.listDrafts(ctx, 1, "")
	require.NoError(t, err)
	require.True(t, proto.Equal(drafts[0], page[0]))
	page, next, err = s.listDrafts(ctx, 1, next)
	require.NoError(t, err)
	require.True(t, proto.Equal(drafts[1], page[0]))
	require.Empty(t, next)

	require.NoError(t, s.deleteDraft(ctx, "aaaaaa"))
	require.ErrorIs(t, s.deleteDraft(ctx, "aaaaaa"), errNotFound)
	drafts, _, err = s.listDrafts(ctx, 0, "")
	require.NoError(t, err)
	require.Len(t, drafts, 1)
}

func TestADraftKeepsItsPartsUntilItIsGone(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	part, err := s.addPart(ctx, &pb.Part{Name: "memo.txt"}, strings.NewReader("memo"), 100)
	require.NoError(t, err)
	id := strings.Repeat("c", 32)
	_, err = s.saveDraft(ctx, id, &pb.Report{Attachments: []*pb.Part{part}})
	require.NoError(t, err)
	dropped, err := s.dropUnusedParts(ctx, time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.Zero(t, dropped)
	require.NoError(t, s.deleteDraft(ctx, id))
	dropped, err = s.dropUnusedParts(ctx, time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.Equal(t, 1, dropped)

	_, err = s.saveDraft(ctx, id, &pb.Report{Attachments: []*pb.Part{part}})
	require.Error(t, err, "a draft never names bytes that are not here")
	drafts, _, err := s.listDrafts(ctx, 0, "")
	require.NoError(t, err)
	require.Empty(t, drafts, "a failed save leaves nothing")
}
