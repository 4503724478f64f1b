def compute_score(reward_inputs):
    scores = []
    for given in reward_inputs:
        right = float(sum(map(ord, given["response"])) % 3 == 0)
        scores.append({"overall": right, "accuracy": right})
    return scores
