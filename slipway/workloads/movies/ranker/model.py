"""The causal transformer that scores every item as the next one. Knows index space; knows no data set, loss or file.

Pre-LN blocks, squared ReLU (So et al. 2021, Primer), linear maps without bias, learned positions and an output tied to
the item embedding (Kang & McAuley 2018, SASRec), with the options of SSE-PT (Wu et al. 2020): a concatenated user
embedding and stochastic shared embeddings. Unlike there, a user who is not kept becomes <unk> and not another user, so
that <unk> learns what to say to strangers, and inputs and targets are replaced independently.
Sequences are right-padded with 0. Under a causal mask no real position ever sees the padding, and position 0 is the
oldest item of the window, in training as in serving.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slipway.workloads.movies.ranker.config import RankerConfig

UNKNOWN_USER = 0
PLAIN_ATTENTION = 256  # positions up to which three plain products beat the CPU's flash kernel in bf16, by 2 to 4 times


class Dropout(nn.Module):
    """Inverted dropout with one random byte per element: a quarter of nn.Dropout's time on a CPU.

    The rate is rounded to 1/256 and the scale follows it, so that the expectation stays exact.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.dropped = round(rate * 256)  # of 256 byte values

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.dropped:
            return x
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= self.dropped
        # x * kept * scale in one pass, forward as backward; the name says what torch itself uses it for.
        y: Tensor = torch.ops.aten.native_dropout_backward(x, kept, 256 / (256 - self.dropped))
        return y


class Block(nn.Module):
    """One pre-LN transformer layer over (B, L, W)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.mix = nn.Linear(width, width, bias=False)
        self.norm_feed = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width, bias=False)
        self.contract = nn.Linear(4 * width, width, bias=False)
        self.dropout = Dropout(dropout)

    def _split(self, x: Tensor) -> Tensor:
        B, L, W = x.shape
        return x.view(B, L, self.heads, W // self.heads).transpose(1, 2)  # (B, heads, L, W / heads)

    def _after(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.dropout(self.mix(attended.transpose(1, 2).flatten(2)))
        x = x + self.dropout(self.contract(F.relu(self.expand(self.norm_feed(x))).square()))
        return x

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm_attention(x)
        key, value = (self._split(part) for part in self.key_value(normed).chunk(2, dim=-1))
        # No dropout on the attention weights: it would turn flash kernels off, and helps no more than the others.
        return self._after(x, _attend(self._split(self.query(normed)), key, value))

    def newest(self, x: Tensor, newest: Tensor) -> Tensor:
        """(B, 1, W): what forward gives at position newest (B,), without computing the others."""
        normed = self.norm_attention(x)
        key, value = (self._split(part) for part in self.key_value(normed).chunk(2, dim=-1))
        query = self._split(self.query(_at(normed, newest)))  # (B, heads, 1, W / heads)
        visible = torch.arange(x.shape[1], device=x.device) <= newest[:, None]  # (B, L)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=visible[:, None, None, :])
        return self._after(_at(x, newest), attended)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(B, heads, L, d) each → (B, heads, L, d): causal attention."""
    B, heads, L, d = query.shape
    if query.device.type != "cpu" or query.dtype is not torch.bfloat16 or L > PLAIN_ATTENTION:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)
    query, key, value = (x.reshape(B * heads, L, d) for x in (query, key, value))
    future = torch.full((L, L), -torch.inf, dtype=query.dtype).triu_(1)
    scores = torch.baddbmm(future, query, key.transpose(1, 2), alpha=1 / math.sqrt(d))  # (B * heads, L, L)
    return torch.bmm(scores.softmax(dim=-1), value).view(B, heads, L, d)  # softmax sums in fp32


def _at(x: Tensor, position: Tensor) -> Tensor:
    """(B, L, W), (B,) → (B, 1, W)."""
    return x.gather(1, position[:, None, None].expand(-1, 1, x.shape[2]))


class Ranker(nn.Module):
    def __init__(self, config: RankerConfig, n_items: int, n_users: int) -> None:
        super().__init__()
        self.config = config
        self.n_items = n_items
        self.n_users = n_users
        self.item = nn.Embedding(n_items + 1, config.dim, padding_idx=0)
        self.position = nn.Embedding(config.max_len, config.width)
        self.user = nn.Embedding(n_users + 1, config.user_dim) if config.user_dim else None
        self.familiar: Tensor
        self.register_buffer("familiar", torch.ones(n_items + 1))  # 0: make_unknown was told so
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config.width, config.heads, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.apply(self._initialise)

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx].detach())

    def _share(self, items: Tensor, users: Tensor) -> tuple[Tensor, Tensor]:
        """Stochastic shared embeddings: inputs that training does not keep are replaced, users by <unk>."""
        if self.user is not None and self.config.keep_user < 1:
            replaced = torch.rand(users.shape, device=users.device) >= self.config.keep_user
            users = users.masked_fill(replaced, UNKNOWN_USER)
        return self._share_items(items), users

    def _share_items(self, items: Tensor) -> Tensor:
        if self.config.keep_item == 1:
            return items
        replaced = (torch.rand(items.shape, device=items.device) >= self.config.keep_item) & (items > 0)
        return torch.where(replaced, torch.randint_like(items, 1, self.n_items + 1), items)

    def share_targets(self, targets: Tensor) -> Tensor:
        """Any shape, 0 for padding: the same for what training asks, as often as for what it is told."""
        return self._share_items(targets) if self.training else targets

    def _embed(self, items: Tensor, users: Tensor | None) -> Tensor:
        """(B, L) items, (B,) user index + 1 → (B, L, W)."""
        x: Tensor = self.item(items) * math.sqrt(self.config.dim)
        if not self.training:
            x = x * self.familiar[items][..., None]
        if self.user is not None:
            if users is None:
                users = torch.zeros_like(items[:, 0])
            user = self.user(users) * math.sqrt(self.config.user_dim)
            x = torch.cat([x, user[:, None, :].expand(-1, items.shape[1], -1)], dim=-1)
        x = x + self.position.weight[: items.shape[1]]
        # The residual stream in the products' own type: no copy before and after each of them, a seventh of a step.
        kind = x.device.type
        return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x

    def forward(self, items: Tensor, users: Tensor) -> Tensor:
        """(B, L), (B,) → (B, L, dim): each position's query against the item embedding. The training path."""
        if self.training:
            items, users = self._share(items, users)
        x = self.dropout(self._embed(items, users))
        for block in self.blocks:
            x = block(x)
        return self._query(x)

    def newest(self, items: Tensor, users: Tensor | None = None) -> Tensor:
        """(B, L), (B,) or None for <unk> → (B, n_items + 1) logits after each row's newest item; column 0 is -inf.

        The serving path: the last block and the output see one position per row.
        """
        last = (items > 0).sum(dim=1).sub(1).clamp(min=0)  # (B,)
        x = self._embed(items, users)
        for block in self.blocks[:-1]:
            x = block(x)
        final = self.blocks[-1]
        assert isinstance(final, Block)
        query = self._query(final.newest(x, last))[:, 0]  # (B, dim)
        return F.linear(query, self.item.weight) + self._padding_bias

    @property
    def _padding_bias(self) -> Tensor:
        bias = torch.zeros(self.n_items + 1, device=self.item.weight.device)
        bias[0] = -torch.inf
        return bias

    def _query(self, x: Tensor) -> Tensor:
        # SSE-PT also multiplies the user's part of x with the user embedding. That adds the same number to every
        # item of a row, which a softmax over the catalogue and a ranking both ignore.
        query: Tensor = self.norm(x)[..., : self.config.dim]
        return query

    @torch.no_grad()
    def make_unknown(self, users: Tensor, items: Tensor) -> None:
        """What training never saw: these users (indices) get the embedding of <unk>; these items (index space) say
        nothing where they stand in a history, because their embedding only learned not to be the answer.
        """
        if self.user is not None:
            self.user.weight[users + 1] = self.user.weight[UNKNOWN_USER].clone()
        self.familiar[items] = 0
