"""Models of KerasHub that read or hear: transformers for text and speech."""

from bn_keras.pages.surgery_models.entry import BATCH, Entry, tokens
from bn_keras.pages.surgery_models.hub import hub

TEXT = {"vocabulary_size": 10, "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 12}
POSITIONS = TEXT | {"max_sequence_length": 6}
GROUPED = {
    "vocabulary_size": 10, "num_layers": 2, "num_query_heads": 4, "num_key_value_heads": 2, "hidden_dim": 16,
    "intermediate_dim": 12,
}  # fmt: skip


def two_texts(random):
    """The inputs of an encoder and of a decoder."""
    one, other = tokens("padding_mask", length=4)(random), tokens("padding_mask", length=5)(random)
    return {f"encoder_{name}": value for name, value in one.items()} | {
        f"decoder_{name}": value for name, value in other.items()
    }


def speech(random):
    text = tokens("padding_mask")(random)
    return {"encoder_features": random.normal(size=(BATCH, 5, 80)).astype("float32")} | {
        f"decoder_{name}": value for name, value in text.items()
    }


MASKED, SEGMENTED = tokens("padding_mask"), tokens("padding_mask", "segment_ids")
TEXT_MODELS = {
    "BERT": ("BertBackbone", POSITIONS, SEGMENTED),
    "RoBERTa": ("RobertaBackbone", POSITIONS, MASKED),
    "XLM-RoBERTa": ("XLMRobertaBackbone", POSITIONS, MASKED),
    "DistilBERT": ("DistilBertBackbone", POSITIONS, MASKED),
    "ALBERT": (
        "AlbertBackbone",
        POSITIONS | {"num_groups": 1, "num_inner_repetitions": 1, "embedding_dim": 6},
        SEGMENTED,
    ),
    "DeBERTaV3": ("DebertaV3Backbone", POSITIONS, MASKED),
    "ELECTRA": (
        "ElectraBackbone",
        {key: value for key, value in POSITIONS.items() if key != "vocabulary_size"}
        | {"vocab_size": 10, "embedding_dim": 6},
        SEGMENTED,
    ),
    "FNet": (
        "FNetBackbone",
        {key: value for key, value in POSITIONS.items() if key != "num_heads"},
        tokens("segment_ids"),
    ),
    "RoFormerV2": ("RoformerV2Backbone", TEXT | {"head_size": 4}, tokens("segment_ids")),
    "XLNet": ("XLNetBackbone", TEXT, SEGMENTED),
    "GPT-2": ("GPT2Backbone", POSITIONS, MASKED),
    "GPT-NeoX": ("GPTNeoXBackbone", POSITIONS | {"hidden_dim": 16}, MASKED),
    "OPT": ("OPTBackbone", POSITIONS, MASKED),
    "Bloom": ("BloomBackbone", TEXT, MASKED),
    "Falcon": (
        "FalconBackbone",
        {"vocabulary_size": 10, "num_layers": 2, "num_attention_heads": 4, "hidden_dim": 16, "intermediate_dim": 12},
        MASKED,
    ),
    "Llama": ("LlamaBackbone", GROUPED, MASKED),
    "Mistral": ("MistralBackbone", GROUPED | {"sliding_window": 2}, MASKED),
    "Phi-3": ("Phi3Backbone", GROUPED, MASKED),
    "Qwen 2": ("QwenBackbone", GROUPED, MASKED),
    "Qwen 3": ("Qwen3Backbone", GROUPED | {"head_dim": 4}, MASKED),
    "Gemma": ("GemmaBackbone", GROUPED | {"head_dim": 4, "num_key_value_heads": 1}, MASKED),
    "T5": ("T5Backbone", TEXT, two_texts),
    "BART": ("BartBackbone", POSITIONS, two_texts),
}
WHISPER = {"max_encoder_sequence_length": 6, "max_decoder_sequence_length": 6}
MODELS = {
    **{
        name: Entry(hub(kind, **settings), inputs, needs_hub=True)
        for name, (kind, settings, inputs) in TEXT_MODELS.items()
    },
    "Whisper": Entry(hub("WhisperBackbone", **TEXT | WHISPER), speech, needs_hub=True),
}
