"""The translator in PyTorch: an encoder-decoder transformer over characters, and its greedy decoding.

Shapes: B texts, S characters of a text, T of a translation, width 64 in 4 heads of 16.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from translate_dates import LONGEST

WIDTH, HEADS, HIDDEN, LAYERS = 64, 4, 96, 2
# An input is a character's embedding and, behind it, its position's.
CHARACTER, POSITION = 48, 16
# Place 0 is padding.
SOURCE = "\0 ',-./0123456789:abcdefghijklmnopqrstuvwxyzßàäèéöûü"
# Place 0 stands before and behind a translation.
TARGET = "\0-0123456789:T"
STEPS = len("2026-11-03T16:15") + 1
EPSILON = 1e-5


def encode(texts: list[str]) -> tuple[Tensor, Tensor]:
    """Characters as B x S places in SOURCE, padded, and B x S whether each is one."""
    texts = [text.lower() for text in texts]
    longest = max(map(len, texts))
    tokens = torch.tensor([[SOURCE.index(c) for c in text.ljust(longest, "\0")] for text in texts])
    return tokens, tokens != 0


def encode_targets(targets: list[str]) -> tuple[Tensor, Tensor]:
    """What the decoder is given and what it should give: B x T places in TARGET; -100 where nothing."""
    rows = [[TARGET.index(c) for c in target] for target in targets]
    longest = max(map(len, rows)) + 1
    given = torch.tensor([[0, *row] + [0] * (longest - 1 - len(row)) for row in rows])
    wanted = torch.tensor([[*row, 0] + [-100] * (longest - 1 - len(row)) for row in rows])
    return given, wanted


def decode(tokens: Tensor) -> list[str]:
    """The translations that rows of places spell, up to the first 0."""
    return ["".join(TARGET[place] for place in row).split("\0")[0] for row in tokens.tolist()]


def split_heads(x: Tensor) -> Tensor:
    """B x T x width as B x heads x T x 16."""
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


class EncoderLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, EPSILON), nn.LayerNorm(WIDTH, EPSILON)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        q, k, v = map(split_heads, self.qkv(self.norm1(x)).chunk(3, -1))
        x = x + self.out(join_heads(F.scaled_dot_product_attention(q, k, v, kept[:, None, None])))
        return x + self.down(F.relu(self.up(self.norm2(x))))


class DecoderLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(WIDTH, EPSILON) for _ in range(3))
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.query, self.memory = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH)
        self.cross_out = nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def remember(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the encoder's output, made once."""
        k, v = map(split_heads, self.memory(encoded).chunk(2, -1))
        return k.contiguous(), v.contiguous()

    def forward(self, x: Tensor, memory: tuple[Tensor, Tensor], kept: Tensor, cache=None, past=0) -> Tensor:
        """All tokens at once or, with a cache of keys and values, the one behind `past` others."""
        q, k, v = map(split_heads, self.qkv(self.norm1(x)).chunk(3, -1))
        if cache is not None:
            keys, values = cache
            keys[:, :, past : past + 1], values[:, :, past : past + 1] = k, v
            k, v = keys[:, :, : past + 1], values[:, :, : past + 1]
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=cache is None)
        x = x + self.out(join_heads(seen))
        q = split_heads(self.query(self.norm2(x)))
        read = F.scaled_dot_product_attention(q, *memory, kept[:, None, None])
        x = x + self.cross_out(join_heads(read))
        return x + self.down(F.relu(self.up(self.norm3(x))))


class Embedding(nn.Module):
    """Characters B x T, the first at position `past`, as B x T x width."""

    def __init__(self, characters: int, positions: int):
        super().__init__()
        self.character = nn.Parameter(torch.randn(characters, CHARACTER) * 0.5)
        self.position = nn.Parameter(torch.randn(positions, POSITION) * 0.5)

    def forward(self, tokens: Tensor, past=0) -> Tensor:
        batch, length = tokens.shape
        position = self.position[past : past + length].expand(batch, -1, -1)
        return torch.cat((F.embedding(tokens, self.character), position), -1)


class Translator(nn.Module):
    def __init__(self):
        super().__init__()
        self.source, self.target = Embedding(len(SOURCE), LONGEST), Embedding(len(TARGET), STEPS)
        self.encoder = nn.ModuleList(EncoderLayer() for _ in range(LAYERS))
        self.decoder = nn.ModuleList(DecoderLayer() for _ in range(LAYERS))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(WIDTH, EPSILON), nn.LayerNorm(WIDTH, EPSILON)
        self.logits = nn.Linear(WIDTH, len(TARGET))

    def remember(self, source: Tensor, kept: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Each decoder layer's keys and values of the encoded texts."""
        x = self.source(source)
        for layer in self.encoder:
            x = layer(x, kept)
        x = self.encoder_norm(x)
        return [layer.remember(x) for layer in self.decoder]

    def forward(self, source: Tensor, kept: Tensor, target: Tensor) -> Tensor:
        """Logits B x T x len(TARGET) of what follows each prefix of `target`."""
        memories = self.remember(source, kept)
        x = self.target(target)
        for layer, memory in zip(self.decoder, memories):
            x = layer(x, memory, kept)
        return self.logits(self.decoder_norm(x))

    @torch.inference_mode()
    def greedy(self, source: Tensor, kept: Tensor) -> Tensor:
        """The most likely character again and again, from caches, until every text has ended: B x T."""
        memories = self.remember(source, kept)
        batch = len(source)
        room = (batch, HEADS, STEPS, WIDTH // HEADS)
        caches = [(torch.empty(room), torch.empty(room)) for _ in self.decoder]
        token, ended, tokens = torch.zeros(batch, 1, dtype=torch.long), torch.zeros(batch, dtype=torch.bool), []
        for past in range(STEPS):
            x = self.target(token, past)
            for layer, memory, cache in zip(self.decoder, memories, caches):
                x = layer(x, memory, kept, cache, past)
            token = self.logits(self.decoder_norm(x)).argmax(-1)
            tokens.append(token)
            ended |= token[:, 0] == 0
            if ended.all():
                break
        return torch.cat(tokens, 1)
